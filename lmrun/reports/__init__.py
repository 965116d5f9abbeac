"""What a build did to a model, and what it cost: from the store, nothing is computed anew."""
