"""Speech synthesis (espeak-ng), recognition (pocketsphinx), and scripted stand-ins for both."""
