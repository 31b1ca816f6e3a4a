"""Files, pictures and videos."""
