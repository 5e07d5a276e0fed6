"""What is counted, what that means, and the page that shows it."""
