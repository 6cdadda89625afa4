"""Files for other programs: `maxim-export --for HOST`. `table` lists the hosts."""
