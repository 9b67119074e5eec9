"""Counts what parsing, chunking and terms have been: files that another version read are read anew."""

PARSER_VERSION = 1
