"""A policy that trains in a second."""

SMALL_POLICY = (
    *("env=starpilot", "env.num_envs=4", "env.threads=0", "total_timesteps=128", "device=cpu", "logger=[csv]"),
    *("ppo.n_steps=16", "ppo.batch_size=32", "ppo.n_epochs=1", "network.features_dim=16"),
    *("evaluation.every=0", "evaluation.episodes=1", "evaluation.looks=[]"),
)
"""Settings of ``kdrl-train``: two rollouts, judged by one episode. What is given after them counts instead."""
