"""Records what users did, refreshes, recommends: on a server of its own, gone at the end."""

import tempfile

import banditcore as bc

with tempfile.TemporaryDirectory() as directory, bc.connect(f"embedded://{directory}") as store:
    shop = bc.Bandit("shop", store, prior=bc.Prior(1, 30))
    shop.record("IN/mobile", "scarf", reward=1.0)
    shop.record_batch({"segment": ["IN/mobile", "US"], "arm": ["hat", "scarf"], "reward": [0, 1]})
    print(shop.refresh().published)
    recommender = bc.Recommender(shop)
    recommender.warm_up()
    answer = recommender.recommend("IN/mobile/new", k=2, user="u42")
    print(answer.arms, answer.source, answer.propensities)
