"""What to label, correct and trust next, from predictions and labels alone. Arrays in, tables out."""
