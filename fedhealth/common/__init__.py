"""What every wing may use: errors, atomic files, text tables, the array codec and the runtime environment."""
