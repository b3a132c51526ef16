"""The report: one folder of HTML and pictures that says what was done, how well it went, and shows it."""
