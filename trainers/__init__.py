"""What can be run: one folder per trainer, and kit/ with what they share. A trainer knows files and
environment variables; it imports nothing of the launcher and knows nothing of where it runs."""
