"""Arrays and groups as users hold them: façades over operations, with a store and options."""
