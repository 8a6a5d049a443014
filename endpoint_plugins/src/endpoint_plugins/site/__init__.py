"""What an administrator does at a site: look at the machine, write its profile, try it, set its policy."""
