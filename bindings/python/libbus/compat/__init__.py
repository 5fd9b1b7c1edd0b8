"""Interfaces of other libraries on libbus: a program changes one import."""
