"""What every wing may use: errors, atomic files, safe text, text tables, log odds, arrays and the runtime environment."""
