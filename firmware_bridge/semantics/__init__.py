"""What every operator computes, to the bit: where tables, golden vectors and folded constants come from."""
