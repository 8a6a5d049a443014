"""What workers at the sites fetch from the hub and send to it, by signed links."""
