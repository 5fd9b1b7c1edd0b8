"""Programs written for other libraries run on libbus when they change an import."""
