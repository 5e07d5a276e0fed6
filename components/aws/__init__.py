"""What is made on AWS; nothing else imports its SDK."""
