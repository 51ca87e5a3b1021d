"""What the product is about, free of IO: values that refuse to exist when invalid, and the decisions made on them."""
