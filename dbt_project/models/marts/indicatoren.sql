{{ indicator_definities() }}
