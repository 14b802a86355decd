"""The built-in PPO trainer, `esper-rec train`. Everything but `config` and `signals` needs the extra `train`."""
