"""What a job tells people: journal, sheets of pictures, MLflow."""
