"""Networks: everything that needs torch or MONAI."""
