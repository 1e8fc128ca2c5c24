//! A file system made visible: the server behind each mount, the registry of what is mounted, the file-system drivers.
