"""What gets built: one ComponentResource a file, named by the field's own word."""
