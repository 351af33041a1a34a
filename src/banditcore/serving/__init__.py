"""Answers requests from local memory, whatever happens to the store."""

from __future__ import annotations

from banditcore.serving.recommendation import Recommendation
from banditcore.serving.recommendations import Recommendations
from banditcore.serving.recommender import Recommender

__all__ = ["Recommendation", "Recommendations", "Recommender"]
