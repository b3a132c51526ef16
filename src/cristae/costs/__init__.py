"""What stages cost before they run: memory, disk and time from the size of the work. Pure functions of numbers."""
