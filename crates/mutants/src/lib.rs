//! A planted bug exists only in a build with the feature `planted`, and there only in the thread that planted it.
