"""Answers requests from local memory, whatever happens to the store."""

from __future__ import annotations

from banditcore.serving.caps import FrequencyCap
from banditcore.serving.recommendation import Recommendation
from banditcore.serving.recommendations import Recommendations
from banditcore.serving.recommender import Recommender
from banditcore.serving.seen import SeenStats

__all__ = ["FrequencyCap", "Recommendation", "Recommendations", "Recommender", "SeenStats"]
