"""What other programs take: `maxim-export --for HOST`. `table` lists the hosts, one file each."""
