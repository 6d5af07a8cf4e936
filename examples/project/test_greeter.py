"""What the greeter says."""

import unittest

from greeter import greet


class Greetings(unittest.TestCase):
    def test_everybody_is_greeted(self):
        self.assertEqual(greet("/"), "<h1>Hello, world!</h1>")

    def test_names_are_said(self):
        self.assertEqual(greet("/Ada"), "<h1>Hello, Ada!</h1>")


if __name__ == "__main__":
    unittest.main()
