"""The course's own face: pictures, checks and progress."""
