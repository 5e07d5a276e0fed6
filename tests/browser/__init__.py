"""What a person sees of a deployment."""
