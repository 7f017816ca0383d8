"""What people measured on images: presentation states (GSPS) and structured reports (SR) -> shapes and their labels."""
