"""Finding servables: by words, and by the fields of their documents."""
