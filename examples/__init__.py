"""Programs that receive files from strangers, and strangers that attack them."""
