"""Gateway: admits sealed updates, merges and judges them, signs and publishes the fleet's adapter."""
