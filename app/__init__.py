"""Syncline: keeps the CRMs of one company telling the same story."""

__version__ = "0.1.0"
