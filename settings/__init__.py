"""What a stack may say: settings, typed and validated, and the documents generated from them."""
