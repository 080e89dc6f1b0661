"""What encryption costs in bytes and quality: images are encrypted, coded, decoded and decrypted.

`treatments` says what is done to an image before it is coded, `coders` how it is coded, and
`measurement` joins the two; `tables`, `figures` and `recommendation` are what comes of it.
"""
