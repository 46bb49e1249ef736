"""What runs programs: variables, traced functions, their plans, eager calls."""
