"""One file per subcommand: argument parsing and printing, no more."""
