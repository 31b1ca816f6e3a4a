"""Many runs: combinations and searches."""
