"""Real servers, real processes and real files for the tests to use."""
