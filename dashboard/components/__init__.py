"""Pure components: facts in, Dash components out. Text from outside is always a child or a title, never markup."""
