"""Training of strategies: compiled steps, the loop over updates, checkpoints, caches, devices and processes."""
