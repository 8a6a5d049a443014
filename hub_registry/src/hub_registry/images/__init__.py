"""Images of servables: made and tested when they are published, kept in the file store, handed to sites."""
