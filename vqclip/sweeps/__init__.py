"""Many runs: sweeps over combinations, and hyperparameter searches."""
