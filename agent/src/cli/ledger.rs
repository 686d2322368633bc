//! `portcullis sessions`, `export`, `verify`
