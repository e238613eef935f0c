"""The spine of `loraudit robustness`: clean against poisoned training, under every tuning method."""
