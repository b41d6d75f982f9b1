"""What each page shows and may do, without Qt: what can run, why not, what is stale."""
