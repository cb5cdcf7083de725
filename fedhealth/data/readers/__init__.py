"""A hospital's export as it is: CSV, Excel, Parquet, SPSS, Stata and SAS files -> one `Sheet`."""
