"""The built-in PPO trainer. `config` needs no torch; everything else here needs the extra `train`."""
