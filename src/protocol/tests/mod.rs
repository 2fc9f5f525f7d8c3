//! Tests of the parser as a whole. Edges of single parts are tested beside them.

mod verdict;
